<?php

declare(strict_types=1);

require dirname(__DIR__) . '/app/bootstrap.php';

Shop\Framework\Http\Health::of(BP)->send();
