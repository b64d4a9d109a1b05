<?php

declare(strict_types=1);

namespace Shop\Catalog\Controller;

use Shop\Catalog\Products;
use Shop\Framework\Http\Controller;
use Shop\Framework\Http\Page;
use Shop\Framework\Http\Request;
use Shop\Framework\Http\Response;

/** One product, by its url_key. */
final class ProductView implements Controller
{
    public function __construct(private readonly Products $products)
    {
    }

    public function answer(Request $request, Page $page): ?Response
    {
        foreach ($this->products->all() as $product) {
            if ($product->url_key === $request->query['url_key']) {
                $html = $page->render('Shop_Catalog::product.phtml', ['product' => $product, 'title' => $product->name]);
                return Response::page($html)->cacheable(ProductList::SECONDS, ["cat_p_$product->id", "store_$page->store"]);
            }
        }
        return null;
    }
}
