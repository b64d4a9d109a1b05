<?php

declare(strict_types=1);

namespace Shop\Framework;

use Shop\Framework\Console\Application;
use Shop\Framework\Di\CompiledPlans;
use Shop\Framework\Di\Definition;
use Shop\Framework\Di\Plans;
use Shop\Framework\Di\ReflectedPlans;
use Shop\Framework\Http\FrontController;
use Shop\Framework\Http\Request;
use Shop\Framework\Http\Response;

/** Makes the container for an area, and hands over to the console or the front controller. */
final class Bootstrap
{
    /** These are there before the container is: it is handed them. */
    public const GIVEN = [Configuration::class, Log::class, Modules::class, ObjectManager::class];

    /** @param list<string> $words */
    public static function console(string $root, array $words): int
    {
        try {
            Lock::read($root);
            return self::container($root, 'crontab')->get(Application::class)->run($words);
        } catch (Refusal $refusal) {
            fwrite(STDERR, $refusal->getMessage() . "\n");
        } catch (\Throwable $bug) {
            // as Magento does: what was thrown, in colour, and then the way there
            fwrite(STDERR, sprintf("\n\e[37;41m%s in %s:%d: %s\e[39;49m\n%s\n", $bug::class, $bug->getFile(), $bug->getLine(), $bug->getMessage(), $bug->getTraceAsString()));
        }
        return 1;
    }

    public static function http(string $root): void
    {
        try {
            $response = self::container($root, 'frontend', compiledOnly: true)->get(FrontController::class)->answer(Request::fromGlobals());
        } catch (\Throwable $problem) {
            (new Log($root))->write('exception', (string) $problem);
            $response = Response::text(500, 'This page cannot be shown at the moment.');
        }
        $response->send();
    }

    public static function container(string $root, string $area, bool $compiledOnly = false): ObjectManager
    {
        $metadata = "$root/generated/metadata/$area.php";
        if ($compiledOnly && !is_file($metadata)) {
            throw new Refusal("generated/metadata/$area.php is missing: run bin/magento setup:di:compile");
        }
        $configuration = new Configuration($root);
        $modules = new Modules($root, $configuration);
        $plans = is_file($metadata)
            ? new CompiledPlans(require $metadata)
            : new ReflectedPlans(Definition::ofArea($modules, $area));
        $container = new ObjectManager($plans);
        foreach ([$configuration, $modules, $container, new Log($root)] as $instance) {
            $container->share($instance);
        }
        return $container;
    }
}
