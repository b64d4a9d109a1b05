<?php

declare(strict_types=1);

namespace Shop\Framework;

/** The cache in Redis; each release has its own prefix there, from env.php. And a copy in files, which commands and pages write in turn. */
final class RedisCache implements Cache
{
    public function __construct(private readonly Configuration $configuration, private readonly Log $log)
    {
    }

    public function remember(string $key, int $seconds, \Closure $make): mixed
    {
        $key = $this->configuration->need('cache/frontend/default/id_prefix') . $key;
        try {
            $redis = $this->connect('default');
            $found = $redis->get($key);
            if ($found !== false) {
                return json_decode($found, true);
            }
            $value = $make();
            $text = json_encode($value, JSON_THROW_ON_ERROR);
            Folder::rewrite("{$this->configuration->root}/var/cache/" . hash('sha256', $key), $text);
            $redis->set($key, $text, ['ex' => $seconds]);
            return $value;
        } catch (\RedisException $problem) {
            $this->log->write('system', "cache: {$problem->getMessage()}");
            return $value ?? $make();
        }
    }

    public function flush(): void
    {
        Folder::empty("{$this->configuration->root}/var/cache");
        foreach (array_keys($this->configuration->need('cache/frontend')) as $frontend) {
            try {
                $this->connect($frontend)->flushDB();
            } catch (\RedisException $problem) {
                throw new Refusal("Redis does not answer, so its $frontend cache was not flushed: {$problem->getMessage()}");
            }
        }
    }

    private function connect(string $frontend): \Redis
    {
        return Redis::connect($this->configuration->need("cache/frontend/$frontend/backend_options"));
    }
}
