<?php

declare(strict_types=1);

namespace Shop\Catalog\Controller;

use Shop\Framework\Connection;
use Shop\Framework\Http\Controller;
use Shop\Framework\Http\Page;
use Shop\Framework\Http\Request;
use Shop\Framework\Http\Response;
use Shop\Framework\Setup\SecondFactor;

/** The administrator's page: user, password and a code of six digits let somebody in. */
final class Administration implements Controller
{
    public function __construct(private readonly Connection $connection)
    {
    }

    public function answer(Request $request, Page $page): Response
    {
        $in = $request->method === 'POST' && $this->known($request->form);
        return Response::page($page->render('Shop_Catalog::administration.phtml', ['in' => $in, 'title' => 'Administration']), $in || $request->method === 'GET' ? 200 : 401);
    }

    /** @param array<string, string> $form */
    private function known(array $form): bool
    {
        $user = $this->connection->rows('SELECT password, otp_secret FROM admin_user WHERE username = ?', [$form['user'] ?? ''])[0] ?? null;
        $codes = array_map(static fn (int $ago): string => SecondFactor::code((string) ($user['otp_secret'] ?? ''), time() - $ago), $user && $user['otp_secret'] ? [0, 30] : []);
        return $user && password_verify($form['password'] ?? '', $user['password']) && in_array($form['code'] ?? '', $codes, true);
    }
}
