<?php

declare(strict_types=1);

define('BP', dirname(__DIR__));

if (!is_file(BP . '/vendor/autoload.php')) {
    fwrite(defined('STDERR') ? STDERR : fopen('php://stderr', 'w'), "vendor/autoload.php is missing: run composer install\n");
    http_response_code(500);
    exit(1);
}
require BP . '/vendor/autoload.php';

foreach (glob(BP . '/app/code/*/*/registration.php', GLOB_NOSORT) ?: [] as $file) {
    require $file;
}

// A warning that nobody reads is an error that nobody finds.
set_error_handler(static function (int $level, string $message, string $file, int $line): bool {
    if (!(error_reporting() & $level)) {
        return false;
    }
    throw new ErrorException($message, 0, $level, $file, $line);
});
