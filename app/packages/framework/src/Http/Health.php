<?php

declare(strict_types=1);

namespace Shop\Framework\Http;

use Shop\Framework\Configuration;
use Shop\Framework\Connection;
use Shop\Framework\Redis;

/** Asks what the shop depends on, each within seconds, and names what does not answer; no container, no session. */
final class Health
{
    public static function of(string $root): Response
    {
        $configuration = new Configuration($root);
        $checks = [
            'database' => static fn (): mixed => (new Connection($configuration))->rows('SELECT 1'),
            'cache' => static fn (): mixed => Redis::connect($configuration->need('cache/frontend/default/backend_options'))->ping(),
            'session' => static fn (): mixed => Redis::connect($configuration->need('session/redis'))->ping(),
            'static' => static fn (): mixed => file_get_contents("$root/pub/static/deployed_version.txt"),
        ];
        $failing = [];
        foreach ($checks as $name => $check) {
            try {
                $check();
            } catch (\Throwable) {
                // the reason may hold addresses and names: it is for the log of the service, not for visitors
                $failing[] = $name;
            }
        }
        return Response::json(['status' => $failing ? 'failing' : 'ok', 'checked' => array_keys($checks), 'failing' => $failing], $failing ? 503 : 200);
    }
}
