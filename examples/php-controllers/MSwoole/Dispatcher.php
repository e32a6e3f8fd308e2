<?php

declare(strict_types=1);

namespace MSwoole;

use Throwable;

/** Finds the controller that an event is for, and calls it. */
final class Dispatcher
{
    /** Methods of a controller that clients can't call by their names. */
    private const OURS = ['onclose', 'onmessage'];

    /** @param string $root the directory that App is in */
    public function __construct(private readonly string $root, private readonly Sets $sets)
    {
    }

    /**
     * The answer to an event.
     *
     * @param array<string, mixed> $event
     * @return array<string, mixed>
     */
    public function answer(array $event): array
    {
        $app = new App($this->sets);
        match ($event['event'] ?? '') {
            'message' => $this->message($app, $event),
            'close' => $this->close($app, $event),
            default => null,
        };
        return ['operations' => $app->operations()];
    }

    /** @param array<string, mixed> $event */
    private function message(App $app, array $event): void
    {
        $call = $event['call'] ?? null;
        if (!is_array($call)) {
            return;
        }
        $fd = $event['connection'];
        $data = json_decode($event['message'], true, 512, JSON_THROW_ON_ERROR);
        unset($data['method']);
        try {
            $this->call($app, $fd, $call, $data);
        } catch (Throwable $error) {
            // What it has sent before it failed is sent.
            error_log((string) $error);
            $app->sendMessage($fd, 500, 'controllerError', '程序错误');
        }
    }

    /**
     * @param array{module: string, controller: string, method: string} $call
     * @param array<string, mixed> $data
     */
    private function call(App $app, int $fd, array $call, array $data): void
    {
        $controller = $this->controller($call['module'], $call['controller']);
        if ($controller === null) {
            $app->sendMessage($fd, 404, 'controllerNotFound', '您请求的控制器不存在');
            return;
        }
        // Public ones, and none of those that PHP (__construct) or this class calls by itself.
        $name = strtolower($call['method']);
        $method = [$controller, $name];
        if (!str_starts_with($name, '__') && !in_array($name, self::OURS, true) && is_callable($method)) {
            $method($app, $data);
        } elseif (is_callable([$controller, 'onMessage'])) {
            $controller->onMessage($app, $data);
        } else {
            $app->sendMessage($fd, 405, 'methodNotFound', '您请求的method方法不存在');
        }
    }

    /** @param array<string, mixed> $event */
    private function close(App $app, array $event): void
    {
        $fd = $event['connection'];
        $data = ['fd' => $fd] + ($event['claims'] ?? []);
        foreach ($event['close_controllers'] as $name) {
            [$module, $controller] = array_pad(explode('.', $name, 2), -2, 'Index');
            try {
                $controller = $this->controller($module, $controller);
                if ($controller !== null && is_callable([$controller, 'onClose'])) {
                    $controller->onClose($app, $data);
                }
            } catch (Throwable $error) {
                // Told again, the others would hear of the same end twice; and nobody is kept in a set for it.
                error_log((string) $error);
            }
        }
        $this->sets->remove($fd, ...$event['close_keys']);
    }

    /** App/<Module>/Controller/<Name>.php, in whatever case its name is written. */
    private function controller(string $module, string $name): ?object
    {
        $module = $this->entry($this->root . '/App', $module);
        $file = $module === null ? null : $this->entry("{$this->root}/App/$module/Controller", "$name.php");
        if ($file === null) {
            return null;
        }
        require_once "{$this->root}/App/$module/Controller/$file";
        $class = "App\\$module\\Controller\\" . substr($file, 0, -4);
        return class_exists($class, false) ? new $class() : null;
    }

    /** The name of a directory's entry; null where there is none. A client has written what is looked for. */
    private function entry(string $directory, string $name): ?string
    {
        foreach (is_dir($directory) ? scandir($directory) : [] as $entry) {
            if (preg_match('/^[A-Za-z_]/', $entry) && strcasecmp($entry, $name) === 0) {
                return $entry;
            }
        }
        return null;
    }
}
