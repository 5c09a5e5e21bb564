// Lists what a weight file holds, through the installed libraries.
#include <cstdio>

#include "formats/inspect.h"

int main(int count, char** arguments) {
  if (count != 2) return std::fprintf(stderr, "usage: consumer FILE\n"), 2;
  std::puts(retort::inspect(arguments[1]).c_str());
}
