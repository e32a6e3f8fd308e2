<?php

namespace App\Room\Controller;

use MSwoole\App;

/** A controller as applications of the original have them: it keeps a room, and says who has left. */
class User
{
    private function key(array $data): string
    {
        return 'ROOM_' . ($data['room'] ?? '1');
    }

    public function join(App $app, array $data = [])
    {
        $app->fdAddCloseKey($data['fd'], $this->key($data));
        $app->fdAddController($data['fd'], 'Room.User');
        $app->sendSuccessMessage($data['fd'], 'joined', 'welcome', ['fd' => $data['fd'], 'auth' => $data['auth']]);
    }

    public function say(App $app, array $data = [])
    {
        $app->sendSuccessMessage($this->key($data), 'said', 'somebody speaks', $data['text']);
    }

    public function out(App $app, array $data = [])
    {
        $app->fdRemoveCloseKey($data['fd'], $this->key($data));
        $app->fdRemoveController($data['fd'], 'Room.User');
        $app->sendSuccessMessage($data['fd'], 'left', 'bye');
    }

    public function fails(App $app, array $data = [])
    {
        $app->sendMessage($data['fd'], 999, 'before', 'it fails');
        throw new \RuntimeException('on purpose');
    }

    public function onClose(App $app, array $data = [])
    {
        $app->sendSuccessMessage('ROOM_1', 'gone', 'somebody has left', ['fd' => $data['fd']]);
    }
}
