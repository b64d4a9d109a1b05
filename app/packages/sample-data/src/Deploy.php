<?php

declare(strict_types=1);

namespace Shop\SampleData;

use Shop\Framework\Configuration;
use Shop\Framework\Connection;
use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;
use Shop\Framework\Modules;
use Shop\Framework\Setup\Recurring;

/** sampledata:deploy, and each upgrade of a shop for testing: products and pictures; what is there stays as it is. */
final class Deploy extends Command implements Recurring
{
    public function __construct(private readonly Configuration $configuration, private readonly Connection $connection, private readonly Modules $modules)
    {
    }

    public function run(Input $input): int
    {
        echo $this->fill();
        return 0;
    }

    public function install(): string
    {
        return $this->configuration->get('application/test_data') === true ? $this->fill() : '';
    }

    private function fill(): string
    {
        $source = $this->modules->folders()['Shop_SampleData'];
        $media = "{$this->modules->root}/pub/media/catalog/product";
        is_dir($media) || mkdir($media, 0o775, true);
        $added = 0;
        foreach (array_map(str_getcsv(...), array_slice(file("$source/products.csv", FILE_IGNORE_NEW_LINES) ?: [], 1)) as [$sku, $name, $price, $quantity, $hue, $description]) {
            if (!is_file("$media/$sku.svg")) {
                file_put_contents("$media/$sku.svg", strtr((string) file_get_contents("$source/media/" . strtok($sku, '-') . '.svg'), ['HUE' => $hue]));
            }
            $exists = $this->connection->rows('SELECT 1 FROM catalog_product WHERE sku = ?', [$sku]);
            if (!$exists) {
                $this->connection->rows('INSERT INTO catalog_product (sku, name, url_key, price, quantity, description) VALUES (?, ?, ?, ?, ?, ?)', [$sku, $name, strtr(strtolower($name), ' ', '-'), $price, $quantity, $description]);
                $added++;
            }
        }
        return "sample data: $added products added\n";
    }
}
