<?php

/**
 * The webhook that Carillon calls: checks who is calling, has controllers do the work, and answers with what they want done.
 *
 * WEBHOOK_SECRET  the same as Carillon's
 * APP_ROOT        the directory with App in it; this one if unset
 * APP_REDIS       host:port of the Redis with the application's sets of connections, if it keeps such;
 *                 redis://:PASSWORD@host:port/DATABASE where it has a password or another database than 0
 */

declare(strict_types=1);

namespace MSwoole;

use Throwable;

$root = getenv('APP_ROOT') ?: __DIR__;

// MSwoole\… is here; the rest is the application's: its library (Library/…), and itself (App\…). The sample that is here as
// well has the name of a class that applications have.
spl_autoload_register(static function (string $class) use ($root): void {
    $path = str_replace('\\', '/', $class) . '.php';
    $directories = str_starts_with($class, 'MSwoole\\') ? [__DIR__, $root] : ["$root/Library", $root];
    foreach ($directories as $directory) {
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

// Until there is an answer: a controller may end the script.
http_response_code(500);
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
    return;
} finally {
    ob_end_clean();
}
http_response_code(200);
header('Content-Type: application/json');
echo $json;
