<?php

declare(strict_types=1);

namespace Shop\Catalog;

use Shop\Framework\Connection;
use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;
use Shop\Framework\Cron\Job;
use Shop\Framework\Search\Engine;

/** indexer:reindex: the products as the search engine has them; by the clock only where others are for sale. */
final class Reindex extends Command implements Job
{
    public const INDEX = 'product_1';
    /** The only category there is. */
    public const CATEGORY = 2;

    public function __construct(private readonly Products $products, private readonly Engine $engine, private readonly Connection $connection)
    {
    }

    public function run(Input $input): int
    {
        echo "Catalog Search index has been rebuilt: {$this->rebuild()} products\n";
        return 0;
    }

    public function work(): string
    {
        $indexed = $this->connection->rows("SELECT flag_data FROM flag WHERE flag_code = 'indexed'")[0]['flag_data'] ?? '';
        return $indexed === $this->ids() ? 'the index is up to date' : "{$this->rebuild()} products indexed";
    }

    private function ids(): string
    {
        return implode(',', array_map(static fn (Product $product): int => $product->id, $this->products->all()));
    }

    private function rebuild(): int
    {
        $documents = [];
        foreach ($this->products->all() as $product) {
            $documents[$product->id] = ['name' => $product->name, 'name_sort' => $product->name, 'visibility' => '4', 'category_ids' => [self::CATEGORY]];
        }
        $this->engine->replace(self::INDEX, $documents);
        $this->connection->rows("REPLACE INTO flag (flag_code, flag_data) VALUES ('indexed', ?)", [$this->ids()]);
        return count($documents);
    }
}
