// The rows of a forest that another row stands in front of, as a forest of their own: what predicts the token
// after the next reads a token together with what was said in front of it.
#pragma once
#include "forest/forest.h"

namespace retort {

struct LaterRows {
  // All rows but the first of each text, as they see each other, their positions one less. Its targets are
  // those of these rows.
  Forest forest;
  std::vector<int32_t> before;  // of each of its rows, the row of the whole forest in front of it
};
LaterRows later_rows(const Forest& forest);

}  // namespace retort
