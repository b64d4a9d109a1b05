<?php

declare(strict_types=1);

namespace Shop\Catalog\Controller;

use Shop\Framework\Http\Controller;
use Shop\Framework\Http\Page;
use Shop\Framework\Http\Request;
use Shop\Framework\Http\Response;

/** The menu of every page: the page cache keeps it once, and puts it in (ESI). */
final class Menu implements Controller
{
    public function answer(Request $request, Page $page): Response
    {
        return Response::page($page->part('Shop_Catalog::menu.phtml'))->cacheable(ProductList::SECONDS, ["store_$page->store"]);
    }
}
