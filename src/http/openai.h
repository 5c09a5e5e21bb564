// A teacher behind an OpenAI-compatible server: vLLM, SGLang, llama-cpp-python and the like.
#pragma once
#include <atomic>

#include "http/client.h"
#include "http/token_names.h"
#include "teacher/served_teacher.h"

namespace retort {

// What a reply says of one text. rows[i] is what follows tokens[0..i]; empty where the server says nothing.
using Rows = std::vector<TopRow>;
// vLLM's prompt_logprobs: a list with one object a token, {"ID": {"logprob", "decoded_token"}}. FormatError
// when it is not that, RecipeError when its tokens are not the student's.
Rows rows_of_prompt_logprobs(const Json& choice, const Sample& sample, int64_t top, const TokenNames& names,
                             const std::string& place);
// A sample, and its text as the server was given it.
struct SentText {
  const Sample& sample;
  std::string_view text;
};
// echo: "logprobs": {"tokens": [...], "top_logprobs": [{"TEXT": logprob}]}, with what was generated behind.
// `checked`: whether the reply itself shows that each token stands beside the distribution before it (some
// servers pair it with the one after it: a FormatError); `leading`: whether the sample's first token is
// listed.
struct EchoRows {
  Rows rows;
  bool checked = false, leading = false;
};
EchoRows rows_of_echo(const Json& choice, const SentText& sent, int64_t top, const TokenNames& names,
                      const std::string& place);

class OpenAiTeacher : public ServedTeacher {
 public:
  // Asks the server which models it has. RecipeError when the one that is wanted is not among them.
  OpenAiTeacher(const TeacherSpec& spec, const Tokenizer& student);
  const std::string& model() const override { return model_; }
  std::vector<std::vector<TopRow>> score(std::span<const Sample> samples, int64_t top) override;
  std::vector<ServedAnswer> answer(std::span<const AnswerRequest> requests, const AnswersSpec& spec) override;
  int64_t retries() const override { return client_.retries(); }

 private:
  enum class Way { unknown, prompt_logprobs, echo };
  std::string choose_model();
  bool by_ids(std::span<const Sample> samples, int64_t top, std::span<std::vector<TopRow>> rows, bool trying);
  std::vector<Json> ask_echo(const std::vector<std::string>& texts, int64_t top);
  void by_text(std::span<const Sample> samples, int64_t top, std::span<std::vector<TopRow>> rows);
  void check_pairing(const Sample& sample, int64_t top, bool leading);
  std::string text_of(const Sample& sample) const;
  [[noreturn]] void refused(const std::string& path, const HttpReply& reply) const;
  std::vector<Json> choices_of(const Json& reply, size_t count, const std::string& path) const;

  ServerSpec spec_;
  const Tokenizer& tokenizer_;
  TokenNames names_;
  HttpClient client_;
  std::string model_;
  Way way_ = Way::unknown;
  std::atomic<bool> pairing_is_right_[2] = {false,
                                            false};  // of texts whose first token is listed, and of others
};

}  // namespace retort
