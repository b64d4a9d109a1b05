<?php

declare(strict_types=1);

namespace Shop\Catalog;

/** The products as the database has them. */
interface Products
{
    /** @return list<array<string, mixed>> in the order in which they are shown */
    public function rows(): array;

    /** @return list<Product> */
    public function all(): array;
}
