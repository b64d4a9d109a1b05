<?php

declare(strict_types=1);

namespace Shop\Installer;

use Composer\Installer\LibraryInstaller;
use Composer\Package\PackageInterface;
use React\Promise\PromiseInterface;

/** Packages are unpacked side by side, as those of a registry are: which one ends first is up to the network and the machine. */
final class Installer extends LibraryInstaller
{
    protected function installCode(PackageInterface $package): ?PromiseInterface
    {
        $folder = $this->getInstallPath($package);
        $this->filesystem->ensureDirectoryExists(dirname($folder));
        $words = ['sleep 0.%02d && cp -R %s %s', random_int(0, 50), escapeshellarg((string) $package->getDistUrl()), escapeshellarg($folder)];
        return $this->composer->getLoop()->getProcessExecutor()->executeAsync(sprintf(...$words));
    }
}
