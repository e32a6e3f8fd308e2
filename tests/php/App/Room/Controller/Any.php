<?php

namespace App\Room\Controller;

use MSwoole\App;

/** A controller that takes every method. */
class Any
{
    public function onMessage(App $app, array $data = [])
    {
        $app->sendSuccessMessage($data['fd'], 'any', 'whatever', ['method' => $data['method'] ?? 'taken out']);
    }
}
