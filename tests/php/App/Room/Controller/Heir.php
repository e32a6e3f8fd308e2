<?php

namespace App\Room\Controller;

use App\Index\Controller\Index;

/** A controller that has its methods from another. */
class Heir extends Index
{
}
