<?php

declare(strict_types=1);

namespace Shop\Framework;

/** Files below a folder, always in the same order. */
final class Folder
{
    /** @return list<string> */
    public static function files(string $folder, string $extension = ''): array
    {
        $files = [];
        if (is_dir($folder)) {
            $all = new \RecursiveIteratorIterator(new \RecursiveDirectoryIterator($folder, \FilesystemIterator::SKIP_DOTS));
            foreach ($all as $file) {
                if ($file->isFile() && ($extension === '' || $file->getExtension() === $extension)) {
                    $files[] = $file->getPathname();
                }
            }
        }
        sort($files);
        return $files;
    }

    public static function write(string $file, string $content): void
    {
        if (!is_dir(dirname($file))) {
            mkdir(dirname($file), 0o777, true);
        }
        // whole or not at all: another process may be reading it
        file_put_contents("$file.new", $content);
        rename("$file.new", $file);
    }

    /** In its place, as Magento's caches of files do: who has made the file, or its folder, lets the others write. */
    public static function rewrite(string $file, string $content): void
    {
        $folder = dirname($file);
        if (!is_dir($folder) && !@mkdir($folder, 0o777, true) && !is_dir($folder)) {
            throw new Refusal("$folder cannot be made");
        }
        file_put_contents($file, $content, LOCK_EX);
    }

    public static function empty(string $folder): void
    {
        foreach (self::files($folder) as $file) {
            if (!@unlink($file) && file_exists($file)) {
                throw new Refusal("$file cannot be removed");
            }
        }
    }

    public static function remove(string $folder): void
    {
        if (!is_dir($folder)) {
            return;
        }
        $all = new \RecursiveIteratorIterator(new \RecursiveDirectoryIterator($folder, \FilesystemIterator::SKIP_DOTS), \RecursiveIteratorIterator::CHILD_FIRST);
        foreach ($all as $entry) {
            $entry->isDir() && !$entry->isLink() ? rmdir($entry->getPathname()) : unlink($entry->getPathname());
        }
        rmdir($folder);
    }
}
