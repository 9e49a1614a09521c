"""The rooms of the package: what each holds and imports, and on which floor that puts it. Run by: make layers."""

from graphlib import TopologicalSorter

import grimp

PACKAGE = "hypermap"


def rooms() -> dict[str, dict[str, int]]:
    """Return for each room how many of its imports, lazy and type-only ones included, go to each other room."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    found: dict[str, dict[str, int]] = {room.rpartition(".")[2]: {} for room in graph.find_children(PACKAGE)}
    for module in graph.modules - {PACKAGE}:
        own = module.split(".")[1]
        for imported in graph.find_modules_directly_imported_by(module) - {PACKAGE}:
            other = imported.split(".")[1]
            if other != own:
                found[own][other] = found[own].get(other, 0) + 1
    return found


def floors(found: dict[str, dict[str, int]]) -> dict[str, int]:
    """Return the floor of each room, from 1: one above the highest that it imports from.

    Raises:
        graphlib.CycleError: rooms import each other in a circle.
    """
    height: dict[str, int] = {}
    for room in TopologicalSorter(found).static_order():
        height[room] = 1 + max((height[other] for other in found[room]), default=0)
    return height


def main() -> None:
    """Print the rooms from the bottom to the top."""
    found = rooms()
    height = floors(found)
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    for room in sorted(found, key=lambda room: (height[room], room)):
        count = len(graph.find_descendants(f"{PACKAGE}.{room}"))
        imports = ", ".join(f"{other} {count}" for other, count in sorted(found[room].items()))
        print(f"{height[room]}  {room:12} {count:3} modules  {imports and f'imports {imports}'}")
    total = sum(count for imports in found.values() for count in imports.values())
    print(f"{len(found)} rooms on {max(height.values())} floors, {total} imports between them, no circle")


if __name__ == "__main__":
    main()
