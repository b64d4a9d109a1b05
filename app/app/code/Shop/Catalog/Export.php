<?php

declare(strict_types=1);

namespace Shop\Catalog;

use Shop\Framework\Configuration;
use Shop\Framework\Queue\Handler;

/** Writes the products into a file, which may take a while. */
final class Export implements Handler
{
    public function __construct(private readonly Configuration $configuration, private readonly Products $products)
    {
    }

    public function handle(array $message): void
    {
        $lines = array_map(static fn (Product $product): string => "$product->sku,$product->price\n", $this->products->all());
        sleep($message['seconds'] ?? 0);
        file_put_contents("{$this->configuration->root}/var/export/{$message['file']}.csv", $lines);
    }
}
