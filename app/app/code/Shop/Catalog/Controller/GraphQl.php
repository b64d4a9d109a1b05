<?php

declare(strict_types=1);

namespace Shop\Catalog\Controller;

use Shop\Catalog\Products;
use Shop\Framework\Configuration;
use Shop\Framework\Http\Controller;
use Shop\Framework\Http\Page;
use Shop\Framework\Http\Request;
use Shop\Framework\Http\Response;

/** How many products there are, and for which group of customers; under an id that is computed with the salt of app/etc/env.php. */
final class GraphQl implements Controller
{
    private const SECONDS = 3600;

    public function __construct(private readonly Products $products, private readonly Configuration $configuration)
    {
    }

    public function answer(Request $request, Page $page): Response
    {
        $id = hash('sha256', $this->configuration->cacheIdSalt() . "$page->store/$page->group");
        $answer = Response::json(['data' => ['products' => ['total_count' => count($this->products->all())], 'customer' => ['group' => $page->group]]])->with('X-Magento-Cache-Id', $id);
        return $request->method === 'GET' ? $answer->cacheable(self::SECONDS, ['cat_p', "store_$page->store"]) : $answer;
    }
}
