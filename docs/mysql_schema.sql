-- The tables of ComfyFleet in MySQL 8.0+ or MariaDB 10.6+. Generated from src/store/sql/migrations by
-- `npm run generate`. A gateway whose user may create tables makes them itself; for one that may not, run this
-- once in an empty database. The gateway then needs the rights SELECT, INSERT, UPDATE and DELETE.
create table if not exists `schema_versions` (
  `version` bigint primary key,
  `name` varchar(120) not null,
  `applied_at` bigint not null
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;

-- 1: initial
create table `prompts` (
  `sequence` bigint primary key,
  `prompt_id` varchar(256) not null unique,
  `upstream_id` varchar(120) not null,
  `gateway_job_id` varchar(120) not null,
  `owner` varchar(120) not null,
  `caller` varchar(120) not null,
  `client_id` mediumtext,
  `number` double not null,
  `number_given` tinyint not null,
  `priority` bigint not null,
  `status` varchar(120) not null,
  `admitted` tinyint not null,
  `listed` tinyint not null,
  `attempt` bigint not null,
  `sent_attempts` bigint not null,
  `worker_deaths` bigint not null,
  `worker_id` varchar(120),
  `body_hash` varchar(120) not null,
  `workflow_id` mediumtext,
  `created_at` bigint not null,
  `started_at` bigint,
  `finished_at` bigint,
  `duration` bigint not null,
  `finish_order` bigint,
  `told` tinyint not null,
  `reason` mediumtext,
  `traits` longtext not null,
  `summary` longtext
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;
create table `prompt_bodies` (
  `prompt_sequence` bigint primary key,
  `sealed` longtext,
  `text` longtext not null,
  constraint `prompt_bodies_fk` foreign key (`prompt_sequence`) references `prompts` (`sequence`) on delete cascade
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;
create table `prompt_history` (
  `prompt_sequence` bigint primary key,
  `prompt_id` varchar(256) not null,
  `owner` varchar(120) not null,
  `caller` varchar(120) not null,
  `visible` tinyint not null,
  `finish_order` bigint not null,
  `text` longtext not null,
  constraint `prompt_history_fk` foreign key (`prompt_sequence`) references `prompts` (`sequence`) on delete cascade
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;
create table `prompt_logs` (
  `prompt_sequence` bigint not null,
  `line` bigint not null,
  `at` bigint not null,
  `text` longtext not null,
  constraint `prompt_logs_pk` primary key (`prompt_sequence`, `line`),
  constraint `prompt_logs_fk` foreign key (`prompt_sequence`) references `prompts` (`sequence`) on delete cascade
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;
create table `prompt_files` (
  `sequence` bigint primary key,
  `prompt_id` varchar(256) not null,
  `owner` varchar(120) not null,
  `worker_id` varchar(120) not null,
  `token` varchar(120) not null,
  `type` varchar(120) not null,
  `subfolder` mediumtext not null,
  `filename` mediumtext not null,
  `filename_key` varchar(256) not null
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;
create table `records` (
  `collection` varchar(120) not null,
  `id` varchar(256) not null,
  `version` bigint not null,
  `index_key` mediumtext,
  `due_at` bigint,
  `value` longtext not null,
  constraint `records_pk` primary key (`collection`, `id`)
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;
create table `leases` (
  `name` varchar(120) primary key,
  `holder` varchar(120) not null,
  `fence` bigint not null,
  `expires_at` bigint not null
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;
create table `counters` (
  `name` varchar(120) primary key,
  `value` bigint not null
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin;
insert into `counters` (`name`, `value`) values ('prompt', 0), ('finish', 0), ('file', 0), ('fence', 0);
create index `prompts_gateway_job` on `prompts` (`gateway_job_id`);
create index `prompts_by_creation` on `prompts` (`admitted`, `status`, `listed`, `created_at`);
create index `prompts_by_duration` on `prompts` (`admitted`, `status`, `listed`, `duration`);
create index `prompts_of_owner_by_creation` on `prompts` (`owner`, `admitted`, `status`, `listed`, `created_at`);
create index `prompts_of_owner_by_duration` on `prompts` (`owner`, `admitted`, `status`, `listed`, `duration`);
create index `prompts_of_workflow` on `prompts` (`workflow_id`(191), `admitted`, `status`, `listed`, `owner`, `created_at`);
create index `prompts_by_finish` on `prompts` (`finish_order`);
create index `prompts_by_age` on `prompts` (`finished_at`);
create index `prompts_untold` on `prompts` (`told`, `finished_at`);
create index `history_by_finish` on `prompt_history` (`visible`, `finish_order`);
create index `history_of_owner` on `prompt_history` (`owner`, `visible`, `finish_order`);
create index `history_of_caller` on `prompt_history` (`caller`);
create index `files_by_name` on `prompt_files` (`filename_key`, `type`, `sequence`);
create index `files_newest` on `prompt_files` (`owner`, `type`, `sequence`);
create index `files_of_owner` on `prompt_files` (`filename_key`, `type`, `owner`, `sequence`);
create index `files_of_token` on `prompt_files` (`filename_key`, `type`, `token`, `sequence`);
create index `files_of_worker` on `prompt_files` (`filename_key`, `type`, `worker_id`, `sequence`);
create index `files_of_prompt` on `prompt_files` (`prompt_id`, `filename_key`, `type`, `owner`, `sequence`);
create index `records_by_index` on `records` (`collection`, `index_key`(191));
create index `records_due` on `records` (`collection`, `due_at`, `id`);
insert into `schema_versions` (`version`, `name`, `applied_at`) values (1, 'initial', unix_timestamp() * 1000);
