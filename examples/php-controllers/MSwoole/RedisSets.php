<?php

declare(strict_types=1);

namespace MSwoole;

use RuntimeException;

/** Sets in Redis, over the few words of its protocol (RESP2) that are needed here, so that no extension is. */
final class RedisSets implements Sets
{
    /** @var resource|null */
    private $stream = null;

    /** Where it is: host:port. */
    private readonly string $address;

    /** @var list<list<string>> what a new connection begins with */
    private array $greeting = [];

    /** @param string $url host:port, or redis://:PASSWORD@host:port/DATABASE */
    public function __construct(string $url, private readonly float $timeout = 2.0)
    {
        $parts = parse_url(str_contains($url, '://') ? $url : "redis://$url");
        if ($parts === false || !isset($parts['host'])) {
            throw new RuntimeException('APP_REDIS is neither host:port nor a URL');
        }
        $this->address = $parts['host'] . ':' . ($parts['port'] ?? 6379);
        if (isset($parts['pass'])) {
            $user = rawurldecode($parts['user'] ?? '');
            $words = [...($user === '' ? [] : [$user]), rawurldecode($parts['pass'])];
            $this->greeting[] = ['AUTH', ...$words];
        }
        $database = trim($parts['path'] ?? '', '/');
        if ($database !== '') {
            $this->greeting[] = ['SELECT', $database];
        }
    }

    public function members(string $key): ?array
    {
        return $this->command('SMEMBERS', $key);
    }

    public function remove(int $fd, string ...$keys): void
    {
        foreach ($keys as $key) {
            $this->command('SREM', $key, (string) $fd);
        }
    }

    private function command(string ...$words): mixed
    {
        $stream = $this->stream();
        foreach (array_splice($this->greeting, 0) as $greeting) {
            $this->exchange($stream, $greeting);
        }
        return $this->exchange($stream, $words);
    }

    /**
     * @param resource $stream
     * @param list<string> $words
     */
    private function exchange($stream, array $words): mixed
    {
        $request = '*' . count($words) . "\r\n";
        foreach ($words as $word) {
            $request .= '$' . strlen($word) . "\r\n$word\r\n";
        }
        for ($sent = 0; $sent < strlen($request); $sent += $written) {
            $written = fwrite($stream, substr($request, $sent));
            if ($written === false || $written === 0) {
                throw new RuntimeException("redis at {$this->address} takes nothing");
            }
        }
        return $this->reply($stream);
    }

    /** @return resource */
    private function stream()
    {
        if ($this->stream === null) {
            $stream = @stream_socket_client("tcp://{$this->address}", $code, $error, $this->timeout);
            if ($stream === false) {
                throw new RuntimeException("can't reach redis at {$this->address}: $error");
            }
            stream_set_timeout($stream, (int) $this->timeout, (int) (fmod($this->timeout, 1) * 1e6));
            $this->stream = $stream;
        }
        return $this->stream;
    }

    /** @param resource $stream */
    private function reply($stream): mixed
    {
        $line = fgets($stream);
        if ($line === false) {
            throw new RuntimeException("redis at {$this->address} does not answer");
        }
        $rest = rtrim(substr($line, 1), "\r\n");
        return match ($line[0]) {
            '+' => $rest,
            ':' => (int) $rest,
            '$' => $this->bytes($stream, (int) $rest),
            '*' => $this->list($stream, (int) $rest),
            default => throw new RuntimeException("redis at {$this->address}: $rest"),
        };
    }

    /** @param resource $stream */
    private function list($stream, int $length): ?array
    {
        if ($length < 0) {
            return null;
        }
        $list = [];
        while (count($list) < $length) {
            $list[] = $this->reply($stream);
        }
        return $list;
    }

    /** @param resource $stream */
    private function bytes($stream, int $length): ?string
    {
        if ($length < 0) {
            return null;
        }
        $bytes = stream_get_contents($stream, $length + 2);
        if ($bytes === false || strlen($bytes) !== $length + 2) {
            throw new RuntimeException("redis at {$this->address} has broken off");
        }
        return substr($bytes, 0, $length);
    }
}
