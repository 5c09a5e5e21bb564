// A teacher behind a server. Only what it says is known here; the network code is in src/http, which not
// every program has.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "forest/forest.h"
#include "teacher/teacher_spec.h"
#include "teacher/top_row.h"
#include "text/chat.h"

namespace retort {

struct AnswerRequest {
  std::vector<Message> prompt;
  int64_t seed = 0;
};
struct ServedAnswer {
  std::string text, finish_reason;
};

class ServedTeacher {
 public:
  virtual ~ServedTeacher() = default;
  // Its name at the server.
  virtual const std::string& model() const = 0;
  // [s][i] is what follows tokens[0..i] of sample s, at least where tokens[i + 1] is supervised; empty
  // elsewhere. `top`: ids wanted.
  virtual std::vector<std::vector<TopRow>> score(std::span<const Sample> samples, int64_t top) = 0;
  virtual std::vector<ServedAnswer> answer(std::span<const AnswerRequest> requests,
                                           const AnswersSpec& spec) = 0;
  // Requests that had to be sent again.
  virtual int64_t retries() const = 0;
};

// Each program has one of two definitions: the real one (src/http, retort-online) or a RecipeError that names
// the other program (src/cli/offline.cpp, retort).
// Whether this program has network code is said beside it.
bool has_network_code();
std::unique_ptr<ServedTeacher> connect_teacher(const TeacherSpec& spec, const Tokenizer& student);

}  // namespace retort
