<?php

declare(strict_types=1);

Shop\Framework\Registrar::register('Shop_SampleData', __DIR__);
