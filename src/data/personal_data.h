// Records that hold what identifies a person.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/record_plan.h"

namespace retort {

enum class Personal : uint8_t { email, phone, iban, card, national, address, birth };
inline constexpr size_t kPersonalKinds = 7;

// Which kinds a text holds, one bit each. E-mail addresses; phone numbers with a country's code or a word
// such as "Tel." before them; IBANs and card numbers whose check digits are right; national numbers (US
// social security, German tax, French NIR, Spanish DNI and NIE, Italian codice fiscale, Swiss AHV, Brazilian
// CPF) whose check digits are right or that are written with their marks; IP addresses; dates behind a word
// such as "born". Names of people are not looked for.
uint32_t personal_data(std::string_view text, std::string_view place);
uint32_t personal_data(const Record& record);

struct PersonalData {
  int64_t records = 0;                             // that hold any
  std::array<int64_t, kPersonalKinds> kinds = {};  // records by kind
  std::vector<std::string> places;                 // of the first few
  std::vector<std::string> fields;  // columns of the sources whose names say that a person is meant
};

// Looks at everything that the plan uses.
PersonalData find_personal_data(const RecordSource& source, const RecordPlan& plan);

// "personal data in 3 records: ..."; "" where there is none. No text of a record is in it.
std::string describe(const PersonalData& found);

// Whether a column's name says that a person is meant: email, phone, birth_date, ssn, patient_name, ...
bool names_a_person(std::string_view column);

}  // namespace retort
