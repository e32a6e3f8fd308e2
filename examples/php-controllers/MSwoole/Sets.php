<?php

declare(strict_types=1);

namespace MSwoole;

/** The application's own sets of connections. */
interface Sets
{
    /**
     * A set's members; null where there are no such sets to be read.
     *
     * @return list<string>|null
     */
    public function members(string $key): ?array;

    /** Takes a connection out of sets. */
    public function remove(int $fd, string ...$keys): void;
}
