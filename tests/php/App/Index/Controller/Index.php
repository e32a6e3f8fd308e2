<?php

namespace App\Index\Controller;

use MSwoole\App;

/** An application's own, by the name of a sample of the adapter's. */
class Index
{
    public function index(App $app, array $data = [])
    {
        $app->sendSuccessMessage($data['fd'], 'own');
    }
}
