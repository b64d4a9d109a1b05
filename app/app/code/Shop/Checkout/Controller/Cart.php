<?php

declare(strict_types=1);

namespace Shop\Checkout\Controller;

use Shop\Catalog\Product;
use Shop\Catalog\Products;
use Shop\Framework\Http\Controller;
use Shop\Framework\Http\Page;
use Shop\Framework\Http\Request;
use Shop\Framework\Http\Response;
use Shop\Framework\Http\Session;

/** The cart of one visitor: sku => quantity in the session. */
final class Cart implements Controller
{
    private const MOST = 99;

    public function __construct(private readonly Products $products, private readonly Session $session)
    {
    }

    public function answer(Request $request, Page $page): ?Response
    {
        $action = $request->query['action'];
        $sku = $request->form['sku'] ?? '';
        $cart = $this->session->get('cart');
        if (in_array($action, ['add', 'remove'], true)) {
            return $request->method === 'POST' ? $this->change($action, $sku, $cart, $page) : null;
        }
        if ($action === 'summary') {
            return Response::json(['count' => array_sum($cart)]);
        }
        $lines = array_filter($this->products->all(), static fn (Product $product): bool => isset($cart[$product->sku]));
        $total = array_sum(array_map(static fn (Product $product): float => (float) $product->price * $cart[$product->sku], $lines));
        return Response::page($page->render('Shop_Checkout::cart.phtml', ['cart' => $cart, 'lines' => $lines, 'total' => (string) $total, 'title' => 'Cart']));
    }

    /** @param array<string, int> $cart */
    private function change(string $action, string $sku, array $cart, Page $page): ?Response
    {
        if (!in_array($sku, array_map(static fn (Product $product): string => $product->sku, $this->products->all()), true)) {
            return null;
        }
        $cart[$sku] = min(self::MOST, ($cart[$sku] ?? 0) + 1);
        if ($action === 'remove') {
            unset($cart[$sku]);
        }
        $this->session->set('cart', $cart);
        return Response::redirect($page->url('/checkout/cart/'));
    }
}
