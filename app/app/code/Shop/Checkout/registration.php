<?php

declare(strict_types=1);

Shop\Framework\Registrar::register('Shop_Checkout', __DIR__);
