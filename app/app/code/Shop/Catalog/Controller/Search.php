<?php

declare(strict_types=1);

namespace Shop\Catalog\Controller;

use Shop\Catalog\Product;
use Shop\Catalog\Products;
use Shop\Framework\Http\Controller;
use Shop\Framework\Http\Page;
use Shop\Framework\Http\Request;
use Shop\Framework\Http\Response;

/** What visitors search for: each word is a page that no cache has yet, and it takes its time. */
final class Search implements Controller
{
    /** As long as a search engine and a page made of its answer take. */
    private const MICROSECONDS = 300_000;

    public function __construct(private readonly Products $products)
    {
    }

    public function answer(Request $request, Page $page): Response
    {
        usleep(self::MICROSECONDS);
        $word = $request->query['q'] ?? '';
        $found = array_values(array_filter($this->products->all(), static fn (Product $product): bool => $word !== '' && stripos($product->name, $word) !== false));
        return Response::page($page->render('Shop_Catalog::list.phtml', ['products' => $found]))->cacheable(ProductList::SECONDS, ['cat_p', "store_$page->store"]);
    }
}
