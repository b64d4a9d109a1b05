<?php

declare(strict_types=1);

namespace Shop\Framework\Http;

use Shop\Framework\Configuration;

/** What the pages of a visitor differ by: the group of a customer. The page cache is told by a cookie, and keeps a page once for each group. */
final class Context
{
    public const COOKIE = 'X-Magento-Vary';

    /** The share of a price that a group pays. */
    public const GROUPS = ['wholesale' => 0.8];

    public function __construct(private readonly Session $session, private readonly Configuration $configuration)
    {
    }

    /** Empty for a visitor who is in none. */
    public function group(Request $request): string
    {
        if (isset(self::GROUPS[$request->token])) {
            return $request->token;
        }
        return $this->session->present() ? (string) array_key_first($this->session->get('group')) : '';
    }

    public function sealed(Response $response, string $group): Response
    {
        $vary = $group === '' ? '' : hash('sha256', $group . $this->configuration->need('crypt/key'));
        $sent = $_COOKIE[self::COOKIE] ?? '';
        if ($vary !== $sent) {
            setcookie(self::COOKIE, $vary, ['path' => '/', 'httponly' => true, 'samesite' => 'Lax', 'secure' => $this->session->secure(), 'expires' => $vary === '' ? 1 : 0]);
        }
        // asked for with the cookie of another group, the page would be kept for that group
        return $sent === '' || $vary === $sent ? $response : $response->uncached();
    }
}
