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
use Shop\Framework\Mail;

/** What is in the cart is ordered, and confirmed by mail. */
final class Order implements Controller
{
    private const SALES = 'sales@spring.example';
    private const BOOKKEEPING = 'bookkeeping@spring.example';

    public function __construct(private readonly Products $products, private readonly Session $session, private readonly Mail $mail)
    {
    }

    public function answer(Request $request, Page $page): ?Response
    {
        $to = filter_var($request->form['email'] ?? '', FILTER_VALIDATE_EMAIL);
        $cart = $this->session->get('cart');
        if ($request->method !== 'POST' || $to === false || !$cart) {
            return null;
        }
        $number = sprintf('%09d', random_int(1, 999_999_999));
        $lines = array_filter($this->products->all(), static fn (Product $product): bool => isset($cart[$product->sku]));
        $list = implode('', array_map(static fn (Product $product): string => '<li>' . $cart[$product->sku] . ' × ' . $page->text($product->name) . '</li>', $lines));
        $subject = $page->text('Your order %1 – thank you', $number);
        $html = "<h1>$subject</h1><img alt=\"\" src=\"" . htmlspecialchars($page->base($page->store)) . "media/logo.svg\"><ul>$list</ul>";
        $text = html_entity_decode(strip_tags(str_replace('</li>', "\n", $html)));
        $this->mail->send($page->store, self::SALES, $to, self::BOOKKEEPING, html_entity_decode($subject), $text, $html, 'terms.txt', $page->text('Terms and conditions') . "\n");
        $this->session->set('cart', []);
        return Response::page($page->render('Shop_Checkout::ordered.phtml', ['number' => $number, 'title' => 'Order']));
    }
}
