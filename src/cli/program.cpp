// What `retort` and `retort-online` offer.
#include "cli/commands.h"

namespace retort {

std::unique_ptr<CLI::App> make_program(Action& action) { return make_app(action); }

}  // namespace retort
