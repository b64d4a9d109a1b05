<?php

declare(strict_types=1);

namespace Shop\Framework\Http;

/** What was asked for. */
final class Request
{
    /**
     * @param array<string, string> $query
     * @param array<string, string> $form
     */
    public function __construct(
        public readonly string $method,
        public readonly string $path,
        public readonly array $query = [],
        public readonly array $form = [],
        public readonly string $address = '',
        public readonly string $host = '',
        public readonly string $runCode = '',
        public readonly string $runType = 'store',
        public readonly string $token = '',
        public readonly string $cacheId = '',
        public readonly bool $secure = false,
    ) {
    }

    public static function fromGlobals(): self
    {
        $path = rawurldecode((string) parse_url('http://shop' . $_SERVER['REQUEST_URI'], PHP_URL_PATH));
        return new self($_SERVER['REQUEST_METHOD'], $path, array_filter($_GET, is_string(...)), array_filter($_POST, is_string(...)), $_SERVER['REMOTE_ADDR'] ?? '', preg_replace('/:\d+$/', '', $_SERVER['HTTP_HOST'] ?? ''), $_SERVER['MAGE_RUN_CODE'] ?? '', $_SERVER['MAGE_RUN_TYPE'] ?? 'store', preg_replace('/^Bearer /', '', $_SERVER['HTTP_AUTHORIZATION'] ?? ''), $_SERVER['HTTP_X_MAGENTO_CACHE_ID'] ?? '', ($_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '') === 'https');
    }
}
