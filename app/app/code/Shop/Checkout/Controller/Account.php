<?php

declare(strict_types=1);

namespace Shop\Checkout\Controller;

use Shop\Framework\Http\Context;
use Shop\Framework\Http\Controller;
use Shop\Framework\Http\Page;
use Shop\Framework\Http\Request;
use Shop\Framework\Http\Response;
use Shop\Framework\Http\Session;

/** A customer's group: who says that he is in it is in it. */
final class Account implements Controller
{
    public function __construct(private readonly Session $session)
    {
    }

    public function answer(Request $request, Page $page): ?Response
    {
        $group = $request->form['group'] ?? '';
        if ($request->method !== 'POST' || ($group !== '' && !isset(Context::GROUPS[$group]))) {
            return null;
        }
        $this->session->set('group', $group === '' ? [] : [$group => 1]);
        return Response::redirect($page->url('/'));
    }
}
