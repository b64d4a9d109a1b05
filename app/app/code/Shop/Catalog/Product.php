<?php

declare(strict_types=1);

namespace Shop\Catalog;

/** Something that is sold. */
final class Product
{
    public function __construct(
        public readonly int $id,
        public readonly string $sku,
        public readonly string $name,
        public readonly string $url_key,
        public readonly string $description,
        public readonly string $price,
        public readonly int $quantity,
    ) {
    }

    public function image(): string
    {
        return "/media/catalog/product/$this->sku.svg";
    }
}
