<?php

declare(strict_types=1);

namespace Shop\Framework\Http;

use Shop\Framework\Configuration;

/** What one visitor has, kept in Redis; only pages that nobody else gets open it. */
final class Session
{
    public function __construct(private readonly Configuration $configuration)
    {
    }

    public function present(): bool
    {
        return session_status() === PHP_SESSION_ACTIVE || isset($_COOKIE[session_name()]);
    }

    /** @return array<string, int> */
    public function get(string $key): array
    {
        $this->open();
        return $_SESSION[$key] ?? [];
    }

    /** @param array<string, int> $value */
    public function set(string $key, array $value): void
    {
        $this->open();
        $_SESSION[$key] = $value;
        // tells the scripts of cached pages that there is something of the visitor's own to ask for
        setcookie('private_content_version', bin2hex(random_bytes(8)), ['path' => '/', 'samesite' => 'Lax', 'secure' => $this->secure()]);
    }

    /** Whether a browser sends the cookies over TLS alone. */
    public function secure(): bool
    {
        return str_starts_with((string) $this->configuration->get('system/default/web/unsecure/base_url'), 'https:');
    }

    private function open(): void
    {
        if (session_status() === PHP_SESSION_ACTIVE) {
            return;
        }
        $redis = $this->configuration->need('session/redis');
        ini_set('redis.session.locking_enabled', '1');
        ini_set('redis.session.lock_wait_time', '20000');
        session_start([
            'save_handler' => 'redis',
            'save_path' => "tcp://{$redis['host']}:{$redis['port']}?database={$redis['database']}&timeout=1&read_timeout=2",
            'cache_limiter' => '',
            'cookie_httponly' => true,
            'cookie_samesite' => 'Lax',
            'cookie_secure' => $this->secure(),
            'use_strict_mode' => true,
        ]);
        // as Magento does with each answer: the cookie lives on
        setcookie(session_name(), session_id(), ['path' => '/', 'httponly' => true, 'samesite' => 'Lax', 'secure' => $this->secure()]);
    }
}
