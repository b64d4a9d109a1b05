<?php

declare(strict_types=1);

namespace Shop\Catalog;

use Shop\Framework\Cron\Job;

/** Counts what is sold out. */
final class ReportStock implements Job
{
    public function __construct(private readonly Products $products)
    {
    }

    public function work(): string
    {
        $products = $this->products->all();
        $soldOut = array_filter($products, static fn (Product $product): bool => $product->quantity === 0);
        return sprintf('%d products, %d sold out', count($products), count($soldOut));
    }
}
