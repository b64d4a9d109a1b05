<?php

declare(strict_types=1);

namespace Shop\Framework;

/** The way to a Redis database, with a time-out that a visitor can wait for. */
final class Redis
{
    /** @param array<string, string> $options of Magento's env.php: "server" of a cache, "host" of the sessions */
    public static function connect(array $options): \Redis
    {
        static $open = [];
        $key = json_encode($options);
        if (!isset($open[$key])) {
            $redis = new \Redis();
            $redis->connect($options['server'] ?? $options['host'], (int) $options['port'], 1.0, null, 0, 1.0);
            if ($options['password'] ?? '') {
                $redis->auth($options['password']);
            }
            $redis->select((int) $options['database']);
            $open[$key] = $redis;
        }
        return $open[$key];
    }
}
