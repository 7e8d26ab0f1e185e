-- Names of projects are unique per owner as they are written: `Oven` and `oven` are two projects. (Those of experiments,
-- sensors and agents are unique whatever the case.)

drop index projects_name;
create unique index projects_name on projects (owner_id, name);
