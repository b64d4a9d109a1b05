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
