<?php

declare(strict_types=1);

namespace Shop\Catalog\Controller;

use Shop\Catalog\Product;
use Shop\Catalog\Products;
use Shop\Catalog\Reindex;
use Shop\Framework\Http\Controller;
use Shop\Framework\Http\Page;
use Shop\Framework\Http\Request;
use Shop\Framework\Http\Response;
use Shop\Framework\Search\Engine;

/** The front page: the one category. The search engine says what is in it, the database what that is. */
final class ProductList implements Controller
{
    /** A price changed in MariaDB, behind everybody's back: Varnish keeps a page for this long, and for two seconds more while it asks again. */
    public const SECONDS = 1;

    /** Tags of as many products as a large category has: 12 kB of them. */
    private const PRODUCTS = 1200;

    public function __construct(private readonly Products $products, private readonly Engine $engine)
    {
    }

    public function answer(Request $request, Page $page): Response
    {
        $listed = array_flip($this->engine->ofCategory(Reindex::INDEX, Reindex::CATEGORY));
        $products = array_filter($this->products->all(), static fn (Product $product): bool => isset($listed[$product->id]));
        return Response::page($page->render('Shop_Catalog::list.phtml', ['products' => $products]))->cacheable(self::SECONDS, ['cat_p', "store_$page->store", ...array_map(static fn (int $id): string => "cat_p_$id", range(1, self::PRODUCTS))]);
    }
}
