<?php

namespace App\Room\Controller;

use MSwoole\App;

/** A controller with methods that are nobody's business, and an end that fails. */
class Hidden
{
    public function watch(App $app, array $data = [])
    {
        $app->fdAddController($data['fd'], 'Room.Hidden');
        $app->fdAddController($data['fd'], 'Room.User');
        $app->fdAddCloseKey($data['fd'], 'ROOM_1');
        $app->sendSuccessMessage($data['fd'], 'watched');
    }

    public static function open(App $app, array $data = [])
    {
        $app->sendSuccessMessage($data['fd'], 'static');
    }

    public function leaves(App $app, array $data = [])
    {
        echo 'half a sentence';
        exit;
    }

    protected function kept(App $app, array $data = [])
    {
        $app->sendSuccessMessage($data['fd'], 'kept');
    }

    private function secret(App $app, array $data = [])
    {
        $app->sendSuccessMessage($data['fd'], 'secret');
    }

    public function __destruct()
    {
    }

    public function onClose(App $app, array $data = [])
    {
        throw new \RuntimeException('on purpose');
    }
}
