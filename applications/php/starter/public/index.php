<?php

declare(strict_types=1);

require __DIR__ . '/../vendor/autoload.php';

http_response_code(parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) === '/' ? 200 : 404);
?>
<!DOCTYPE html>
<title>It works</title>
<h1>It works</h1>
<p>Released by the pipeline: <?= htmlspecialchars(basename(dirname(__DIR__))) ?></p>
