<?php

declare(strict_types=1);

namespace MSwoole;

/** For an application without Redis: its sets are Carillon's groups, which end with their connections by themselves. */
final class NoSets implements Sets
{
    public function members(string $key): ?array
    {
        return null;
    }

    public function remove(int $fd, string ...$keys): void
    {
    }
}
