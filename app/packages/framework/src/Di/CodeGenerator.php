<?php

declare(strict_types=1);

namespace Shop\Framework\Di;

use Shop\Framework\Refusal;

/** The source of factories and interceptors. */
final class CodeGenerator
{
    public function factory(string $class): string
    {
        [$namespace, $name] = $this->split($class);
        return <<<PHP
            <?php

            declare(strict_types=1);

            namespace $namespace;

            final class {$name}Factory
            {
                public function __construct(private readonly \\Shop\\Framework\\ObjectManager \$objectManager)
                {
                }

                public function create(array \$arguments = []): \\$class
                {
                    return \$this->objectManager->create(\\$class::class, \$arguments);
                }
            }

            PHP;
    }

    /** @param list<string> $plugins */
    public function interceptor(string $class, array $plugins): string
    {
        if (!class_exists($class) || (new \ReflectionClass($class))->isFinal()) {
            throw new Refusal("di.xml: $class has a plugin, but does not exist or is final");
        }
        $methods = '';
        foreach ((new \ReflectionClass($class))->getMethods(\ReflectionMethod::IS_PUBLIC) as $method) {
            if ($this->wanted($method, $plugins)) {
                $methods .= $this->method($method);
            }
        }
        return "<?php\n\ndeclare(strict_types=1);\n\nnamespace $class;\n\nfinal class Interceptor extends \\$class\n{\n    use \\Shop\\Framework\\Interceptor;\n$methods}\n";
    }

    /** @param list<string> $plugins */
    private function wanted(\ReflectionMethod $method, array $plugins): bool
    {
        if ($method->isStatic() || $method->isFinal() || $method->isConstructor()) {
            return false;
        }
        foreach ($plugins as $plugin) {
            if (!class_exists($plugin)) {
                throw new Refusal("di.xml: the plugin $plugin does not exist");
            }
            foreach (['before', 'around', 'after'] as $moment) {
                if (method_exists($plugin, $moment . ucfirst($method->getName()))) {
                    return true;
                }
            }
        }
        return false;
    }

    private function method(\ReflectionMethod $method): string
    {
        $parameters = [];
        foreach ($method->getParameters() as $parameter) {
            $default = $parameter->isDefaultValueAvailable() ? ' = ' . var_export($parameter->getDefaultValue(), true) : '';
            $parameters[] = trim(sprintf('%s %s$%s%s', $this->type($parameter->getType()), $parameter->isVariadic() ? '...' : '', $parameter->getName(), $default));
        }
        $returned = $this->type($method->getReturnType());
        return sprintf(
            "\n    public function %s(%s)%s\n    {\n        %s\$this->___call('%1\$s', func_get_args());\n    }\n",
            $method->getName(),
            implode(', ', $parameters),
            $returned === '' ? '' : ": $returned",
            in_array($returned, ['void', 'never'], true) ? '' : 'return ',
        );
    }

    private function type(?\ReflectionType $type): string
    {
        if (!$type instanceof \ReflectionNamedType) {
            return implode('|', array_map($this->type(...), $type instanceof \ReflectionUnionType ? $type->getTypes() : []));
        }
        $name = $type->isBuiltin() || $type->getName() === 'self' ? $type->getName() : '\\' . $type->getName();
        return ($type->allowsNull() && !in_array($name, ['mixed', 'null'], true) ? '?' : '') . $name;
    }

    /** @return array{string, string} */
    private function split(string $class): array
    {
        $at = (int) strrpos($class, '\\');
        return [substr($class, 0, $at), substr($class, $at + 1)];
    }
}
