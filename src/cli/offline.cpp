// What `retort` has in the place of src/http: no network code, and the name of the program that has it.
#include "base/error.h"
#include "teacher/served_teacher.h"

namespace retort {

bool has_network_code() { return false; }

std::unique_ptr<ServedTeacher> connect_teacher(const TeacherSpec& spec, const Tokenizer&) {
  throw RecipeError(fmt::format(
      "teacher.url: {} has to be asked, and this program has no network code; `retort-online` takes the same "
      "commands and has it: retort-online teach RECIPE. What it keeps is read without a network",
      printable(spec.url)));
}

}  // namespace retort
