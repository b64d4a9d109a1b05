<?php

declare(strict_types=1);

http_response_code(503);
header('Retry-After: 120');
header('Cache-Control: no-store');
header('Content-Type: text/html; charset=utf-8');
?>
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Back in a moment</title>
<style>body{font:1.1rem/1.6 system-ui,sans-serif;max-width:34rem;margin:20vh auto;padding:0 1.5rem;color:#2b3a33}</style>
<h1>Back in a moment</h1>
<p>The shop is being looked after. Please try again in two minutes.</p>
</html>
