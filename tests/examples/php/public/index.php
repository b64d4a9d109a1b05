<?php

declare(strict_types=1);

use Notes\Application;

require __DIR__ . '/../vendor/autoload.php';

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
(new Application(dirname(__DIR__)))->answer($_SERVER['REQUEST_METHOD'], $path, $_POST);
