<?php

/**
 * The webhook that Carillon calls: checks who is calling, has controllers do the work, and answers with what they want done.
 *
 * WEBHOOK_SECRET  the same as Carillon's
 * APP_ROOT        the directory with App in it; this one if unset
 * APP_REDIS       host:port of the Redis with the application's sets of connections, if it keeps such
 */

declare(strict_types=1);

namespace MSwoole;

use Throwable;

$root = getenv('APP_ROOT') ?: __DIR__;

// Classes of this adapter, of the application (App\…), and those of its own library (Library/…).
spl_autoload_register(static function (string $class) use ($root): void {
    $path = str_replace('\\', '/', $class) . '.php';
    foreach ([__DIR__, $root, "$root/Library"] as $directory) {
        if (is_file("$directory/$path")) {
            require_once "$directory/$path";
            return;
        }
    }
});

$body = (string) file_get_contents('php://input');
$timestamp = $_SERVER['HTTP_CARILLON_TIMESTAMP'] ?? '';
$signature = $_SERVER['HTTP_CARILLON_SIGNATURE'] ?? '';
if (!Signature::fits((string) getenv('WEBHOOK_SECRET'), $body, $timestamp, $signature)) {
    http_response_code(401);
    return;
}

// What a controller prints is not part of the answer.
ob_start();
try {
    $redis = getenv('APP_REDIS');
    $dispatcher = new Dispatcher($root, $redis ? new RedisSets($redis) : new NoSets());
    $answer = $dispatcher->answer(json_decode($body, true, 512, JSON_THROW_ON_ERROR));
    $json = json_encode($answer, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR);
} catch (Throwable $error) {
    // Carillon tells the client that its call has failed.
    error_log((string) $error);
    http_response_code(500);
    return;
} finally {
    ob_end_clean();
}
header('Content-Type: application/json');
echo $json;
