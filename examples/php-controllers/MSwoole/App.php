<?php

declare(strict_types=1);

namespace MSwoole;

/**
 * What controllers are handed: everything they may do with connections.
 *
 * Nothing is done while a controller runs. What it asks for is gathered, in order, as operations of the answer to the
 * webhook, and Carillon carries them out.
 */
final class App
{
    /** @var list<array<string, mixed>> */
    private array $operations = [];

    public function __construct(private readonly Sets $sets)
    {
    }

    /**
     * Sends a message to one connection ($fd a number), or to all in a set of the application's ($fd the key of a set in
     * Redis). Without Redis the set is the one that connections are put into by fdAddCloseKey.
     */
    public function sendMessage($fd = 0, $status = 200, $event = '', $info = '', $param = []): bool
    {
        if (empty($fd)) {
            return false;
        }
        $message = ['status' => (int) $status, 'event' => $event, 'info' => $info];
        if (!empty($param)) {
            $message['param'] = $param;
        }
        $json = json_encode($message, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR);
        if (is_numeric($fd)) {
            $this->operations[] = ['do' => 'push', 'connection' => (int) $fd, 'message' => $json];
            return true;
        }
        $members = $this->sets->members((string) $fd);
        if ($members === null) {
            $this->operations[] = ['do' => 'push', 'group' => "close_key:$fd", 'message' => $json];
            return true;
        }
        foreach ($members as $member) {
            $this->operations[] = ['do' => 'push', 'connection' => (int) $member, 'message' => $json];
        }
        return true;
    }

    public function sendSuccessMessage($fd = 0, $event = '', $info = '', $param = []): bool
    {
        return $this->sendMessage($fd, 200, $event, $info, $param);
    }

    /** When the connection ends, however it ends, it is taken out of the set $key. */
    public function fdAddCloseKey($fd = 0, $key = ''): void
    {
        $this->operations[] = ['do' => 'add_close_key', 'connection' => (int) $fd, 'key' => (string) $key];
    }

    public function fdRemoveCloseKey($fd = 0, $key = ''): void
    {
        $this->operations[] = ['do' => 'remove_close_key', 'connection' => (int) $fd, 'key' => (string) $key];
    }

    /** When the connection ends, the controller's onClose is called: Module.Controller. */
    public function fdAddController($fd = 0, $controller = ''): void
    {
        $this->operations[] =
            ['do' => 'add_close_controller', 'connection' => (int) $fd, 'controller' => (string) $controller];
    }

    public function fdRemoveController($fd = 0, $controller = ''): void
    {
        $this->operations[] =
            ['do' => 'remove_close_controller', 'connection' => (int) $fd, 'controller' => (string) $controller];
    }

    /**
     * What has been asked for.
     *
     * @return list<array<string, mixed>>
     */
    public function operations(): array
    {
        return $this->operations;
    }
}
