<?php

namespace App\Index\Controller;
use MSwoole\App;

class Index
{
    /**
     * 默认控制器，默认方法
     * @param App $app
     * @param array $data
     * @return none
     */
    public function index(App $app, Array $data=[])
    {
        // 返回数据
        $app->sendSuccessMessage($data['fd'], 'success', '执行完成');
    }
}
