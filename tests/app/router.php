<?php
// What nginx does for the shop, for PHP's own server: files as they are, everything else to index.php.
$_SERVER['MAGE_RUN_CODE'] = $_SERVER['HTTP_TEST_RUN_CODE'] ?? '';
$_SERVER['MAGE_RUN_TYPE'] = $_SERVER['HTTP_TEST_RUN_TYPE'] ?? 'store';
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/php-ping') {
    exit('pong');
}
if (str_starts_with($path, '/static/') || $path === '/health_check.php' || is_file($_SERVER['DOCUMENT_ROOT'] . $path)) {
    return false;
}
require $_SERVER['DOCUMENT_ROOT'] . '/index.php';
